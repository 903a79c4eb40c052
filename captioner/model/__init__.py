"""The networks: CNN encoder, recurrent cells, decoder, and the two joined."""
