"""What a server of ours needs to be asked: messages, tensors, handlers, ports, identities."""
