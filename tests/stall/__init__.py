"""``make stall``: no call, receiver, file or stored data delays another caller by more than 50 ms."""
