"""Where training audio comes from: packages -> corpus -> augmented streams -> batches, as audio or as codes. It knows no loss."""
