"""Multi-granular alignment: a photo as slots at three granularities, and the slots of two photos aligned."""
