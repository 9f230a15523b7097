"""The server's two ports: the public one for clients and the page, and the private one for whoever runs the server."""
