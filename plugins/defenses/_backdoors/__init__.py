"""What defenses against poisons and backdoors share."""
