"""TLS of a listener: certificate and key from files, read again when they were renewed."""

import asyncio
import logging
import ssl
from pathlib import Path

LOOK_EVERY_S = 5.0

_log = logging.getLogger(__name__)


class Certificate:
    """A certificate chain and its key, in PEM files that something else renews."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Read the files.

        Raises:
            OSError: they can't be read, or do not belong together.
        """
        self._certificate, self._key = certificate, key
        self._stamp = self._stamp_now()
        self.context = self._load()

    def renew(self) -> bool:
        """Take the files if they changed, for new connections; a bad pair changes nothing.

        Returns:
            Whether the certificate is another one now.
        """
        try:
            stamp = self._stamp_now()
            if stamp == self._stamp:
                return False
            self._load()  # a pair that fails half-way must not be in the context in use
            self.context.load_cert_chain(self._certificate, self._key)
        except OSError as e:
            _log.error("certificate_not_renewed file=%s error=%s", self._certificate, e)
            return False
        self._stamp = stamp
        _log.info("certificate_renewed file=%s", self._certificate)
        return True

    async def keep_renewing(self) -> None:
        """Look after the files until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.renew()

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._certificate, self._key)
        except ssl.SSLError as e:
            raise OSError(
                f"{self._certificate} and {self._key} are no PEM certificate and its key"
            ) from e
        return context

    def _stamp_now(self) -> tuple[tuple[int, int, int], ...]:
        found = (path.stat() for path in (self._certificate, self._key))
        return tuple((file.st_mtime_ns, file.st_ino, file.st_size) for file in found)
