"""Images, encoders and the features that come of them: everything that knows a pixel or a tensor."""
