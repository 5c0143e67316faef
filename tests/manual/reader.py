#!/usr/bin/env python3
"""Reads a vault: a second implementation of the format, written from wardfs-format(5) alone.

    reader.py VAULT OUT      with the passphrase in the environment variable PASSPHRASE, and the keyfile's path in KEYFILE

Writes the plaintext tree to OUT. Needs Python's `cryptography`, 44 or newer. Reads only: no journal, locks or repair.
Extended attributes are written too where OUT takes them. Any damage ends it with an exception.
"""

import base64
import hashlib
import hmac as hmac_module
import os
import stat
import struct
import sys
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FINAL, SPARSE = 1, 2


class Damaged(Exception):
    pass


def require(condition, what):
    if not condition:
        raise Damaged(what)


def hmac(key, message):
    return hmac_module.digest(key, message, "sha256")


def hkdf(key, salt, info, length=32):
    return HKDF(SHA256(), length, salt, info).derive(key)


def aes_ecb(key, blocks):
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(blocks)


def to64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from64(text):
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    require(to64(data) == text, "not canonical base64url")
    return data


def xaes_open(key, nonce, sealed, aad):
    first = int.from_bytes(aes_ecb(key, bytes(16)), "big")
    k1 = ((first << 1) ^ (0x87 if first >> 127 else 0)) & ((1 << 128) - 1)
    blocks = b""
    for counter in (1, 2):
        block = bytes([0, counter, ord("X"), 0]) + nonce[:12]
        blocks += (int.from_bytes(block, "big") ^ k1).to_bytes(16, "big")
    return AESGCM(aes_ecb(key, blocks)).decrypt(nonce[12:], sealed, aad)


def hchacha20(key, nonce):
    s = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))

    def quarter(a, b, c, d):
        for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & 0xFFFFFFFF
            v = s[z] ^ s[x]
            s[z] = ((v << n) | (v >> (32 - n))) & 0xFFFFFFFF

    for _ in range(10):
        for i in range(4):
            quarter(i, i + 4, i + 8, i + 12)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<8I", *s[:4], *s[12:])


def xchacha_open(key, nonce, sealed, aad):
    short = bytes(4) + nonce[16:]
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])).decrypt(short, sealed, aad)


OPEN = {1: xaes_open, 2: xchacha_open}


class Fields:
    def __init__(self, data):
        self.data, self.at = data, 0

    def raw(self, n):
        require(self.at + n <= len(self.data), "payload is too short")
        self.at += n
        return self.data[self.at - n : self.at]

    def int(self, form):
        return struct.unpack("<" + form, self.raw(struct.calcsize("<" + form)))[0]

    def bytes(self):
        return self.raw(self.int("Q"))

    def list(self, element):
        return [element(self) for _ in range(self.int("Q"))]


def slot(f):
    s = {"id": f.int("I"), "kind": f.int("H"), "label": f.bytes(), "owner": f.bytes()}
    s["created"], s["changed"] = f.int("q"), f.int("q")
    s["expires"] = f.int("q") if f.int("B") else None
    s["kdf"] = f.int("I")
    s["cost"] = (f.int("I"), f.int("I"), f.int("I")) if s["kdf"] == 0 else (0, 0, 0)
    s["salt"], s["commitment"], s["nonce"], s["sealed"] = f.raw(32), f.raw(32), f.raw(24), f.raw(48)
    s["data"] = f.bytes()
    return s


class Vault:
    def __init__(self, root, passphrase, keyfile):
        self.root = Path(root)
        raw = (self.root / "~wardfs/volume").read_bytes()
        magic, version, reader, length = struct.unpack("<8sHHI", raw[:16])
        require(magic == b"WARDFSVH" and len(raw) == 16 + length + 32, "frame")
        require(hashlib.sha256(raw[:-32]).digest() == raw[-32:], "checksum")
        require(0 < reader <= version and reader == 1, "minimum reader")
        payload = raw[16:-32]
        f = Fields(payload)
        require(f.int("Q") == 0, "incompatible features")
        f.int("Q")
        self.uuid = f.raw(16)
        f.bytes(), f.int("q"), f.int("B")
        self.log2 = f.int("B")
        slots = f.list(slot)
        ring_nonce, ring = f.raw(24), f.bytes()
        f.list(lambda f: (f.int("H"), f.bytes()))
        mac = f.raw(32)
        require(f.at == len(payload), "payload length")

        key = next(filter(None, (self.open_slot(s, passphrase, keyfile) for s in slots)), None)
        require(key, "wrong secret")
        versions = struct.pack("<HH", version, reader)
        header_key = hkdf(key, b"", b"wardfs v1 header mac")
        require(hmac(header_key, b"wrdhead1" + versions + payload[:-32]) == mac, "header MAC")
        ring = xchacha_open(hkdf(key, b"", b"wardfs v1 keyring"), ring_nonce, ring, b"wrdring1" + self.uuid)
        _, count = struct.unpack("<BH", ring[:3])
        entries = [ring[3 + 41 * i : 44 + 41 * i] for i in range(count)]
        require(len(ring) == 3 + 41 * count, "keyring length")
        self.roots = {entry[0]: entry[9:] for entry in entries}
        names = hkdf(key, b"", b"wardfs v1 name root")
        self.key = lambda label, n=32: hkdf(names, b"", b"wardfs v1 " + label, n)
        self.siv = AESSIV(self.key(b"names", 64))
        self.file_root = hkdf(key, b"", b"wardfs v1 file root")
        self.check_superblock(hkdf(key, b"", b"wardfs v1 journal mac"))

    def open_slot(self, s, passphrase, keyfile):
        if s["kind"] != (1 if passphrase else 0) + (2 if keyfile else 0):
            return None
        text = b"wrdsecr1"
        for tag, part in ((1, passphrase), (2, keyfile and hashlib.sha256(keyfile).digest())):
            if part:
                text += struct.pack("<BQ", tag, len(part)) + part
        if s["kdf"] == 0:
            memory, time, lanes = s["cost"]
            root = Argon2id(salt=s["salt"], length=32, iterations=time, lanes=lanes, memory_cost=memory).derive(text)
        else:
            root = hkdf(text, s["salt"], b"wardfs v1 slot root")
        if hkdf(root, b"", b"wardfs v1 slot commitment") != s["commitment"]:
            return None
        aad = b"wrdslot1" + self.uuid + struct.pack("<IHIIII", s["id"], s["kind"], s["kdf"], *s["cost"])
        return xchacha_open(hkdf(root, b"", b"wardfs v1 slot key"), s["nonce"], s["sealed"], aad + s["salt"] + s["data"])

    def check_superblock(self, key):
        data = (self.root / "~wardfs/journal/superblock").read_bytes()
        valid = [b for b in (data[:4096], data[4096:]) if hmac(key, b[:4064]) == b[4064:] and b[:8] == b"wrdSuper"]
        require(valid and len(data) == 8192, "superblock")

    def content(self, path):
        raw = path.read_bytes()
        require(len(raw) >= 64 + 40, f"{path}: length")
        header, body = raw[:64], raw[64:]
        magic, version, cipher, log2, flags = struct.unpack("<4sBBBB", header[:8])
        require((magic, version, log2, flags) == (b"wrdF", 1, self.log2, 0), f"{path}: header")
        file_id = header[8:32]
        commitment = hkdf(self.file_root, file_id, b"wardfs v1 file commitment" + header[:32])
        require(commitment == header[32:], f"{path}: commitment")
        mask_key = hkdf(self.file_root, file_id, b"wardfs v1 nonce mask" + header[:32])
        keys, plain, holes = {}, [], False
        stored = (1 << log2) + 40
        chunks = [body[at : at + stored] for at in range(0, len(body), stored)]
        require(len(chunks[-1]) > 40 or len(chunks) == 1 and len(chunks[0]) == 40, f"{path}: length")
        for i, chunk in enumerate(chunks):
            last = i + 1 == len(chunks)
            if not last and not any(chunk):
                plain.append(bytes(1 << log2))
                holes = True
                continue
            nonce = chunk[:24]
            meta = bytes(a ^ b for a, b in zip(nonce[:8], aes_ecb(mask_key, nonce[8:])))
            epoch, flags = meta[6], meta[7]
            if epoch not in keys:
                keys[epoch] = hkdf(self.roots[epoch], file_id, b"wardfs v1 file key" + header[4:7])
            plain.append(OPEN[cipher](keys[epoch], nonce, chunk[24:], b"wrdchnk1" + struct.pack("<Q", i)))
            require(flags & ~3 == 0 and bool(flags & FINAL) == last, f"{path}: flags of chunk {i}")
        require(not holes or flags & SPARSE, f"{path}: hole in a file without holes")
        return file_id, b"".join(plain)

    def directory_id(self, path):
        key, links = self.key(b"directories"), [n for n in os.listdir(path) if n.startswith("~id.")]
        record = (path / "~id").read_bytes()
        require(hmac(key, record[:16])[:16] == record[16:], f"{path}: id")
        require(links == ["~id." + to64(record)], f"{path}: second copy of the id")
        return record[:16]

    def name(self, directory, dir_id, stored):
        sealed = (directory / (stored + ".name")).read_bytes() if stored.startswith("~L") else from64(stored)
        padded = self.siv.decrypt(sealed, [dir_id])
        name = padded.rstrip(b"\0")
        require(len(name) + -len(name) % 16 == len(padded) and b"/" not in name and b"\0" not in name, "name")
        if stored.startswith("~L"):
            require(len(name) > 160 and "~L" + to64(hmac(self.key(b"long names"), dir_id + name)) == stored, "long name")
        return name

    def target(self, stored):
        text, length = os.readlink(stored), None
        if text.startswith("~T"):
            ident, length = text[2:].split(".")
            text = (self.root / "~wardfs/targets" / ident).read_text()
        record = from64(text)
        target = xchacha_open(self.key(b"links"), record[:24], record[24:], b"wrdlink1")
        require(length is None or int(length) == len(target), f"{stored}: length of the target")
        return target

    def attributes(self, stored, owner):
        for hidden in os.listxattr(stored):
            if hidden.startswith("user.wardfs."):
                record = os.getxattr(stored, hidden)
                aad = b"wrdxatr1" + bytes([len(owner)]) + owner + hidden.encode()
                plain = xchacha_open(self.key(b"xattr values"), record[:24], record[24:], aad)
                (length,) = struct.unpack("<H", plain[:2])
                name, value = plain[2 : 2 + length], plain[2 + length :]
                expected = hmac(self.key(b"xattr names"), bytes([len(owner)]) + owner + name)[:24]
                require("user.wardfs." + to64(expected) == hidden, f"{stored}: attribute")
                yield name, value

    def extract(self, stored_dir, out):
        entries = [n for n in os.listdir(stored_dir) if not n.startswith("~") or n.startswith("~L") and len(n) == 45]
        dir_id = self.directory_id(stored_dir) if entries or (stored_dir / "~id").exists() else b""
        for name, value in self.attributes(stored_dir, dir_id):
            os.setxattr(out, name, value)
        for entry in entries:
            stored, plain = stored_dir / entry, os.path.join(os.fsencode(out), self.name(stored_dir, dir_id, entry))
            mode = stored.lstat().st_mode
            if stat.S_ISDIR(mode):
                os.mkdir(plain)
                self.extract(stored, plain)
            elif stat.S_ISLNK(mode):
                os.symlink(self.target(stored), plain)
            elif stat.S_ISREG(mode):
                file_id, content = self.content(stored)
                with open(plain, "wb") as file:
                    file.write(content)
                for name, value in self.attributes(stored, file_id):
                    os.setxattr(plain, name, value)


if __name__ == "__main__":
    keyfile = os.environ.get("KEYFILE")
    vault = Vault(sys.argv[1], os.environb.get(b"PASSPHRASE"), keyfile and Path(keyfile).read_bytes())
    os.mkdir(sys.argv[2])
    vault.extract(vault.root, sys.argv[2])
