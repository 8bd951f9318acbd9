"""What a server of ours needs to be asked: messages, tensors, handlers, ports, identities.

Whoever imports grpc imports this package before, because of what is set here.
"""

import os

# Names are resolved by the machine (getaddrinfo), as ssh and curl do. The resolver that gRPC brings
# asks DNS and /etc/hosts alone, so pi-0.local, which only mDNS knows, would be no name to it. gRPC
# reads the variable once, when it is imported; one that is set already is left as it is.
os.environ.setdefault("GRPC_DNS_RESOLVER", "native")
