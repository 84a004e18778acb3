"""What a photo shows where it shows no garment: a network that knows a thousand kinds of things."""
