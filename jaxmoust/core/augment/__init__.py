"""Changes of images on the device: flips, crops, colours, RandAugment, and what a generator may see without leaking."""
