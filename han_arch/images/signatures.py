"""Identify image files that the package cannot read, by their first bytes or their suffix."""

_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Position and bytes of a signature -> the name of the format.
_SIGNATURES = {
    (0, b"\x89PNG\r\n\x1a\n"): "PNG",
    (0, b"\xff\xd8\xff"): "JPEG",
    (8, b"WEBP"): "WebP",
    **{(0, magic): "TIFF" for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")},
    **{(4, b"ftyp" + brand): "HEIC" for brand in _HEIC},
    **{(4, b"ftyp" + brand): "AVIF" for brand in (b"avif", b"avis")},
    **{(0, b"\xff\x0a"): "JPEG XL", (4, b"JXL \r\n\x87\n"): "JPEG XL", (4, b"jP  \r\n\x87\n"): "JPEG 2000"},
    **{(0, b"GIF8"): "GIF", (0, b"8BPS"): "PSD", (0, b"qoif"): "QOI", (0, b"v/1\x01"): "EXR", (0, b"DDS "): "DDS"},
}
START = 32  # number of bytes that `kind_of` needs
# Suffixes of image files, without the dot.
_OTHERS = (
    *("3fr", "apng", "arw", "avif", "avifs", "cr2", "cr3", "cur", "dcm", "dcr", "dds", "dng", "erf", "exr", "fits"),
    *("gif", "hdr", "heic", "heics", "heif", "heifs", "hif", "icns", "ico", "j2c", "j2k", "jls", "jp2", "jpf", "jpm"),
    *("jpx", "jxl", "jxr", "kdc", "mpo", "mrw", "nef", "nrw", "orf", "pam", "pbm", "pcx", "pef", "pfm", "pgm", "pic"),
    *("pnm", "ppm", "psb", "psd", "qoi", "raf", "ras", "raw", "rw2", "rwl", "sgi", "sr2", "srw", "svg", "svgz", "tga"),
    *("wbmp", "x3f", "xbm", "xcf", "xpm"),
)


def kind_of(start: bytes, suffix: str = "") -> str | None:
    """Return the name of an image format, such as "GIF", for a file's suffix and its first 32 bytes; None if unknown.

    `suffix` is a suffix such as ".heic". It counts more than the bytes, because raw photos look like TIFF files.
    """
    if (name := suffix[1:].lower()) in _OTHERS:
        return name.upper()
    for (position, signature), kind in _SIGNATURES.items():
        if start[position : position + len(signature)] == signature:
            return kind
    return None
