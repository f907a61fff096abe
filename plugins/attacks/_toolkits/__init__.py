"""What the bridges to other toolkits' attacks share."""
