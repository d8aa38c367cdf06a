"""Documents before they are tokens: readers, filters, tokenizers, chat templates. Imports no torch."""
