"""What formats begin with, and what names end with."""

import mimetypes
import re

ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
OLE_STORAGE = "application/x-ole-storage"

MAGIC: tuple[tuple[bytes, str], ...] = (
    # pictures
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),
    (b"MM\x00+", "image/tiff"),
    (b"8BPS", "image/vnd.adobe.photoshop"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "image/jp2"),
    (b"\xff\x4f\xff\x51", "image/jp2"),
    (b"\x00\x00\x01\x00", "image/vnd.microsoft.icon"),
    (b"qoif", "image/qoi"),
    (b"\xd7\xcd\xc6\x9a", "image/wmf"),
    (b"\x01\x00\x09\x00\x00\x03", "image/wmf"),
    # documents
    *(
        (start, "application/vnd.ms-excel")
        for start in (b"\x09\x08\x10\x00\x00\x06", b"\x09\x08\x08\x00\x00\x05")
    ),
    *(
        (start, "application/vnd.ms-excel")
        for start in (b"\x09\x04\x06\x00", b"\x09\x02\x06\x00", b"\x09\x00\x04\x00")
    ),
    (OLE, OLE_STORAGE),
    (b"{\\rtf", "application/rtf"),
    (b"\x78\x9f\x3e\x22", "application/vnd.ms-tnef"),
    (b"!BDN", "application/vnd.ms-outlook-pst"),
    # archives
    (b"\x1f\x8b", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/vnd.rar"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\x04\x22\x4d\x18", "application/x-lz4"),
    (b"\x1f\x9d", "application/x-compress"),
    (b"LZIP", "application/x-lzip"),
    (b"\x5d\x00\x00\x80\x00", "application/x-lzma"),
    (b"!<arch>\n", "application/x-archive"),
    (b"070701", "application/x-cpio"),
    (b"070702", "application/x-cpio"),
    (b"070707", "application/x-cpio"),
    (b"\xc7\x71", "application/x-cpio"),
    (b"MSCF\x00\x00\x00\x00", "application/vnd.ms-cab-compressed"),
    (b"xar!", "application/x-xar"),
    # what has no text
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"\x1aE\xdf\xa3", "video/x-matroska"),
    (b"0&\xb2u\x8ef\xcf\x11", "video/x-ms-asf"),
    (b"FLV\x01", "video/x-flv"),
    (b"MThd", "audio/midi"),
    (b"\x7fELF", "application/x-executable"),
    (b"MZ\x90\x00", "application/vnd.microsoft.portable-executable"),
    (b"\xca\xfe\xba\xbe", "application/java-vm"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (b"\x00\x01\x00\x00Standard", "application/x-msaccess"),
    (b"OTTO", "font/otf"),
    (b"\x00\x01\x00\x00\x00", "font/ttf"),
    (b"wOFF", "font/woff"),
    (b"wOF2", "font/woff2"),
    (b"\x89HDF\r\n\x1a\n", "application/x-hdf"),
)
# "BM" and "BZh" alone also begin texts (BMW, BZh...): these formats are told by what follows.
BZIP2 = re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)")
LHA = re.compile(rb"..-l[hz][0-9ds]-", re.DOTALL)
BITMAP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)
# ISO base media files name their kind after their first box's length.
BOX_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "image/heic"),
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
}
RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav", b"AVI ": "video/x-msvideo"}

# Python's own table: what a machine has in /etc/mime.types must not decide.
EXTENSIONS = {
    **mimetypes.MimeTypes().types_map[True],
    ".md": "text/markdown",
    ".log": "text/plain",
    ".tsv": "text/tab-separated-values",
    ".eml": "message/rfc822",
    ".mht": "message/rfc822",
    ".mhtml": "message/rfc822",
    ".mbox": "application/mbox",
    ".msg": "application/vnd.ms-outlook",
    ".ics": "text/calendar",
    ".vcf": "text/vcard",
    ".json": "application/json",
    ".xml": "application/xml",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".heic": "image/heic",
    ".heif": "image/heic",
    ".iso": "application/x-iso9660-image",
    ".lzma": "application/x-lzma",
    ".gpg": "application/pgp-encrypted",
    ".pgp": "application/pgp-encrypted",
}
