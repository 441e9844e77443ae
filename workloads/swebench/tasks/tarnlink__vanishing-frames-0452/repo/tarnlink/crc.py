"""CRC-16/CCITT-FALSE: polynomial 1021, start value FFFF, not reflected."""


def _table():
    entries = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1) ^ 0x1021 if value & 0x8000 else value << 1
        entries.append(value & 0xFFFF)
    return tuple(entries)


_TABLE = _table()


def crc16(data):
    """Checksum of ``data`` as a number from 0 to 65535."""
    value = 0xFFFF
    for byte in data:
        value = ((value << 8) & 0xFFFF) ^ _TABLE[(value >> 8) ^ byte]
    return value
