"""What a model is given away with: files that others read, what was compared of them, a card, a page to try it on."""
