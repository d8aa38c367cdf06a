"""What a run will take, known before its first step: operations, memory by kind, time, money; how large a model, on how much data."""
