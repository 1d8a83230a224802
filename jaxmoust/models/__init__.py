"""The networks: linen modules that map arrays to arrays.

A module here knows its sizes and its parameters, nothing else: not the noise schedule or the loss it serves
(`core`), not a data set, a device or a file. Images come in and go out as NHWC float32; randomness comes in as
one key per example, so that a network's answer for an example does not depend on the rest of its batch.
Import the modules by name; nothing is re-exported.
"""
