"""Shuts a mounted filesystem down as a loss of power would: shutdown_filesystem.py MOUNT_POINT

What is not on the device yet, the filesystem's own log included, never gets there. The test of power cuts runs this,
since the ioctl can't be done from Rust without unsafe code.
"""

import fcntl
import os
import struct
import sys

FS_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), linux/fs.h
NO_LOG_FLUSH = 2  # FS_SHUTDOWN_FLAGS_NOLOGFLUSH

folder = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(folder, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
