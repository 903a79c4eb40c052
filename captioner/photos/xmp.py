"""Write a description into a JPEG as XMP, without decoding it.

Only one segment is inserted, so pixels, EXIF and all other metadata stay as they are. The format is
XMP part 3 (ISO 16684-1): an APP1 segment that holds a packet with `dc:description`.
"""

from xml.sax.saxutils import escape

from captioner.display import blank_out
from captioner.photos.limits import PhotoError

_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
_MOST = 2**16 - 3
"""Maximum content of a JPEG segment in bytes."""

_PACKET = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\
<x:xmpmeta xmlns:x="adobe:ns:meta/">\
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">\
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{}</rdf:li></rdf:Alt></dc:description>\
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def with_description(jpeg: bytes, text: str) -> bytes:
    """Return a JPEG file with a description.

    Args:
        jpeg: The bytes of the file.
        text: The description.

    Raises:
        PhotoError: It is no JPEG, it has XMP already, or the text is too long.
    """
    if not jpeg.startswith(b"\xff\xd8\xff"):
        raise PhotoError("a description can be written into JPEGs only")
    if len(jpeg) < 4:
        raise PhotoError("truncated or damaged JPEG file")
    end = 2  # of the leading APP0 and APP1 segments, which readers expect first
    place = end
    while jpeg[place : place + 1] == b"\xff" and 0xE0 <= jpeg[place + 1] <= 0xEF:
        length = int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if jpeg[place + 1] == 0xE1 and jpeg.startswith(_HEADER, place + 4):
            raise PhotoError("has XMP metadata already, which is never changed")
        leading = jpeg[place + 1] in (0xE0, 0xE1) and end == place
        place += 2 + length
        if length < 2 or place + 2 > len(jpeg):
            raise PhotoError("truncated or damaged JPEG file")
        end = place if leading else end
    content = _HEADER + _PACKET.format(escape(blank_out(text))).encode(errors="replace")
    if len(content) > _MOST:
        raise PhotoError(f"a description of {len(text):,} characters is too long for a JPEG")
    segment = b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content
    return jpeg[:end] + segment + jpeg[end:]
