"""Hostile .npz files by what is wrong with them: a function that makes the bytes, and words of the reason to be given."""

from handmade_files import MEGABYTES, SIX, bomb, compressed, npy, npy_claiming, npz_file, zip_file

OBJECTS = npy_claiming("(1,)", "|O", b"\x80\2N.")

NUMPY = {
    "objects": (lambda: npz_file(w=OBJECTS), "not an array of numbers"),
    "fields": (lambda: npz_file(w=npy_claiming("(1,)", [("a", "<f4")], bytes(4))), "not an array of numbers"),
    "text": (lambda: npz_file(w=npy_claiming("(1,)", "<U4", bytes(16))), "not an array of numbers"),
    "an expression as shape": (lambda: npz_file(w=npy_claiming("(10**10,)", data=bytes(4))), "not an array of numbers"),
    "a shape of 2^40": (lambda: npz_file(w=npy_claiming((2**40,))), "should hold"),
    "a shape whose product overflows": (lambda: npz_file(w=npy_claiming((2**32, 2**32))), "should hold"),
    "an empty array with a side of 2^40": (lambda: npz_file(w=npy_claiming((0, 2**40))), "should hold"),
    "an empty array with huge sides": (lambda: npz_file(w=npy_claiming((0, 2**31, 2**31, 2**31))), "too big"),
    "200 sides": (lambda: npz_file(w=npy_claiming((1,) * 200, data=bytes(4))), "200 sides"),
    "fewer bytes than numbers": (lambda: npz_file(w=npy_claiming((3,), data=bytes(8))), "has 8 bytes"),
    "a header past the end": (lambda: npz_file(w=npy_claiming((1,), start=60_000)), "not an array of numbers"),
    "a header of 60,000 bytes": (lambda: npz_file(w=npy_claiming((1,) * 20_000)), "not an array of numbers"),
    "no array": (lambda: npz_file(w=b"hello"), "not a .npy array"),
    "an empty entry": (lambda: npz_file(w=b""), "not a .npy array"),
    "a compressed array": (lambda: compressed([("w.npy", npy(SIX))]), "compressed (method 8)"),
    "a deflate bomb": (lambda: bomb([("w.npy", b"")], npy_claiming((MEGABYTES << 18,))), "compressed (method 8)"),
    "a deflate bomb that says it is small": (
        lambda: bomb([("w.npy", b"")], npy_claiming((6,)), size=152), "compressed (method 8)"),
    "deflated facts": (
        lambda: compressed([("w.npy", npy(SIX)), ("facts.json", b"{}" + b" " * (1 << 20))]), "compressed (method 8)"),
    "an array with a wrong checksum": (lambda: zip_file([("w.npy", npy(SIX))], crc=1), "damaged"),
    "two arrays of one name": (lambda: zip_file([("w.npy", npy(SIX))] * 2), "two zip entries"),
    "a program beside the arrays": (lambda: zip_file([("w.npy", npy(SIX)), ("x.py", b"")]), "'x.py'"),
    "facts that are no JSON": (lambda: npz_file(b"{", w=npy(SIX)), "not JSON"),
    "facts that are a list": (lambda: npz_file(b"[]", w=npy(SIX)), "got a list"),
    "facts 100,000 deep": (lambda: npz_file(b"[" * 100_000, w=npy(SIX)), "deep"),
    "facts with a number of 5,000 digits": (lambda: npz_file(b"1" * 5000, w=npy(SIX)), "not JSON"),
    "facts that are not UTF-8": (lambda: npz_file(b'{"a": "\xff\xfe"}', w=npy(SIX)), "not JSON"),
    "facts of 2 MB": (lambda: npz_file(b" " * (1 << 21), w=npy(SIX)), "1048576"),
}
