"""Both ends of STAMP, written from RFC 8762 and RFC 8972 alone: packets by struct, times by hand.

  stamp_peer.py send ADDRESS PORT FORMAT COUNT       one packet after the other; prints each answer's fields as a JSON list
  stamp_peer.py raw ADDRESS PORT HEX…                sends each datagram, waits a moment for an answer; prints the answers as a JSON list
  stamp_peer.py reflect ADDRESS PORT FORMAT MODE [DROP-EACH]
                                                     answers until it is killed; prints "ready"; of each DROP-EACH packets it hears, it drops one
"""
import json
import socket
import struct
import sys
import time

BASE = "!IQHH"
REFLECTED = "!IQHHQIQHHBxxx"


def now(format):
    ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
    if format == "ptp":
        tai = time.clock_gettime_ns(11)
        return (tai // 10**9) << 32 | tai % 10**9
    return (ns // 10**9 + 2208988800) << 32 | (ns % 10**9 << 32) // 10**9


def estimate(format):
    # Not synchronised, 2^-32 × 2^20 × 200 s.
    return (0x4000 if format == "ptp" else 0) | 20 << 8 | 200


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def send(address, port, format, count):
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.settimeout(5)
    s.connect((address, port))
    answers = []
    for n in range(count):
        t1 = now(format)
        # An Extra Padding TLV of 5 bytes, and one of a type that nobody knows.
        tlvs = struct.pack("!BBH5s", 0x80, 1, 5, b"12345") + struct.pack("!BBH3s", 0x80, 250, 3, b"abc")
        packet = struct.pack(BASE, n, t1, estimate(format), 4711).ljust(44, b"\0") + tlvs
        s.send(packet)
        answer = s.recv(65536)
        names = ["seq", "t3", "error", "ssid", "t2", "sender_seq", "t1", "sender_error", "mbz", "ttl"]
        fields = dict(zip(names, struct.unpack(REFLECTED, answer[:44])))
        fields |= {"length": len(answer), "sent_length": len(packet), "sent_t1": t1, "t4": now("ptp" if fields["error"] & 0x4000 else "ntp"), "tlvs": answer[44:].hex()}
        fields["t1_here"] = now("ptp" if fields["error"] & 0x4000 else "ntp")
        answers.append(fields)
    print(json.dumps(answers))


def raw(address, port, datagrams):
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.connect((address, port))
    answers = []
    for datagram in datagrams:
        s.send(bytes.fromhex(datagram))
        # The answer to one that is always answered comes behind that to the one before.
        marker = struct.pack(BASE, 0xFFFFFFFF, 1, 1, 0).ljust(44, b"\0")
        s.send(marker)
        s.settimeout(10)
        while True:
            answer = s.recv(65536)
            if struct.unpack("!I", answer[24:28])[0] == 0xFFFFFFFF:
                break
            answers.append(answer.hex())
    print(json.dumps(answers))


def reflect(address, port, format, mode, drop_each):
    s = socket.socket(family(address), socket.SOCK_DGRAM)
    s.bind((address, port))
    print("ready", flush=True)
    heard = count = 0
    while True:
        packet, peer = s.recvfrom(65536)
        t2 = now(format)
        heard += 1
        if drop_each and heard % drop_each == 0:
            # Lost on the way there, as far as anybody can tell.
            continue
        seq, t1, error, ssid = struct.unpack(BASE, packet[:16])
        number = seq if mode == "stateless" else count
        count += 1
        answer = struct.pack(REFLECTED, number, now(format), estimate(format), ssid, t2, seq, t1, error, 0, 63)
        s.sendto(answer + packet[44:], peer)


command, address, port, *rest = sys.argv[1:]
if command == "send":
    send(address, int(port), rest[0], int(rest[1]))
elif command == "raw":
    raw(address, int(port), rest)
else:
    reflect(address, int(port), rest[0], rest[1], int(rest[2]) if len(rest) > 2 else 0)
