"""How many synthetic images are worth one more real image: learning curve, laws, fit and answer."""
