"""The search itself: from a photo to matches, their reasons and their JSON form."""
