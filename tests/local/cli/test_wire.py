"""Captures are read as they are: what is readable is found, what is cut off is no error."""

import struct

import pytest

from fsm.cli.demo import wire

CLIENT, SERVER = "10.244.0.7", "10.244.0.9"


def ipv4(payload, source=CLIENT, target=SERVER, ports=(40000, 14001), protocol=6, padding=b""):
    tcp = struct.pack(">HHIIBBHHH", *ports, 1, 1, 5 << 4, 0x18, 1024, 0, 0) + payload
    addresses = b"".join(bytes(map(int, a.split("."))) for a in (source, target))
    total = 20 + len(tcp)
    return (
        struct.pack(">BBHHHBBH", 0x45, 0, total, 0, 0, 64, protocol, 0) + addresses + tcp + padding
    )


def ipv6(payload):
    tcp = struct.pack(">HHIIBBHHH", 40000, 14001, 1, 1, 5 << 4, 0x18, 1024, 0, 0) + payload
    head = struct.pack(">IHBB", 6 << 28, len(tcp), 6, 64)
    return head + bytes(15) + b"\x01" + bytes(15) + b"\x02" + tcp


def pcap(*packets, link=wire.ETHERNET, order="<", magic=0xA1B2C3D4):
    parts = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link)]
    for packet in packets:
        if link == wire.ETHERNET:
            kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
            packet = bytes(12) + kind + packet
        parts.append(struct.pack(f"{order}IIII", 0, 0, len(packet), len(packet)) + packet)
    return b"".join(parts)


RECORD = b"\x17\x03\x03\x00\x20" + bytes(range(128, 160))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
@pytest.mark.parametrize("link", [wire.ETHERNET, wire.RAW_IP])
def test_every_kind_of_pcap_is_read(order, magic, link):
    evidence = wire.read(pcap(ipv4(RECORD), link=link, order=order, magic=magic))
    (segment,) = evidence.segments
    assert (segment.source, segment.target) == (CLIENT, SERVER)
    assert (segment.source_port, segment.target_port) == (40000, 14001)
    assert segment.payload == RECORD
    assert evidence.tls_records == 1
    assert evidence.readable() == []


def test_ipv6_is_read():
    (segment,) = wire.read(pcap(ipv6(b"GET / HTTP/1.1"))).segments
    assert (segment.source, segment.target) == ("::1", "::2")


def test_a_plain_request_is_found():
    evidence = wire.read(pcap(ipv4(RECORD), ipv4(b"GET /buy-a-book/new HTTP/1.1\r\n")))
    found = {word for word, _ in evidence.readable()}
    assert found == {b"GET /", b"/buy-a-book", b"HTTP/1.1"}


def test_a_word_that_two_segments_share_is_found():
    evidence = wire.read(pcap(ipv4(b"x-client-"), ipv4(b"app: bookbuyer")))
    assert [word for word, _ in evidence.readable()] == [b"client-app"]


def test_words_of_two_directions_are_not_joined():
    back = ipv4(b"app: x", source=SERVER, target=CLIENT, ports=(14001, 40000))
    assert wire.read(pcap(ipv4(b"client-"), back)).readable() == []


def test_what_is_no_tcp_is_counted_and_skipped():
    evidence = wire.read(pcap(ipv4(b"GET /", protocol=17), b"\x45\x00", ipv4(b"")))
    assert evidence.segments == ()
    assert evidence.other_packets == 2


def test_ethernet_padding_is_not_payload():
    (segment,) = wire.read(pcap(ipv4(b"ab", padding=b"GET / HTTP/1.1"))).segments
    assert segment.payload == b"ab"


def test_evidence_is_chosen_by_address():
    other = ipv4(b"GET /", source="10.244.0.3")
    evidence = wire.read(pcap(ipv4(RECORD), other))
    assert evidence.between("10.244.0.3").readable() != []
    assert evidence.without("10.244.0.3").readable() == []
    assert evidence.data_bytes == len(RECORD) + 5


def test_a_capture_that_is_cut_off_anywhere_gives_what_was_complete():
    whole = pcap(ipv4(RECORD), ipv4(RECORD))
    for end in range(24, len(whole)):
        assert len(wire.read(whole[:end]).segments) in (0, 1)
    assert len(wire.read(whole).segments) == 2


@pytest.mark.parametrize("bad", [b"", b"no packets here, only words", b"\xd4\xc3\xb2\xa1"])
def test_what_is_no_capture_is_refused_in_words(bad):
    with pytest.raises(wire.BadCapture, match="not a pcap file"):
        wire.read(bad)


def test_an_unknown_link_type_is_refused_by_number():
    with pytest.raises(wire.BadCapture, match="link type 113"):
        wire.read(pcap(link=113))


@pytest.mark.parametrize(
    "payload",
    [b"\x17\x03", b"\x47\x45\x54\x20\x2f", b"\x17\x03\x03\x00\x00", b"\x17\x03\x09\x00\x20"],
)
def test_what_is_no_tls_record_does_not_count_as_one(payload):
    assert wire.read(pcap(ipv4(payload))).tls_records == 0


def test_a_hex_dump_shows_bytes_and_text():
    lines = wire.hex_lines(b"GET /\x00\xff" + bytes(30), 2)
    assert lines[0].startswith("0000  47 45 54 20 2f 00 ff 00")
    assert lines[0].endswith("GET /···········")
    assert len(lines) == 2
