"""What poisons share: which rows they take, the settings that they refuse, and stamping a trigger on rows."""
