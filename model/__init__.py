"""Model room: images, backbones, GRNet and its rivals, weights, training. The only room that imports torch."""
