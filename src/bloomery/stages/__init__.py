"""The steps of recipes, each from finished artifacts to a new one."""
