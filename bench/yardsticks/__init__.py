"""What chatproto is compared with, in the same run on the same machine."""
