"""Parts that the bridges to other toolkits' attacks share."""
