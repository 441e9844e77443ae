"""tarnlink: nested TLV messages in checksummed frames over a byte stream."""

from .deframer import Deframer, Stats
from .errors import FrameError, LinkError, SchemaError, TlvError
from .frame import DATA, HEARTBEAT, Frame, decode_frame, encode_frame
from .link import Receiver, Sender
from .message import Schema
from .tlv import Node, decode_nodes, encode_nodes

__all__ = [
    "DATA", "Deframer", "Frame", "FrameError", "HEARTBEAT", "LinkError", "Node", "Receiver",
    "Schema", "SchemaError", "Sender", "Stats", "TlvError", "decode_frame", "decode_nodes",
    "encode_frame", "encode_nodes",
]
