"""AG-MAN: one embedding an attribute, so that garments are found by neckline, sleeves or pattern."""
