"""What the scripted provider's answers look like in each dialect that it speaks."""
