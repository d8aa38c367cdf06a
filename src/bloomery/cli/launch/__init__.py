"""Runs on many ranks: started here, or written down as jobs for a cluster. What each rank runs is `bloomery run … --layout …` itself."""
