"""Certificates: read before they are used, and refusals over them explained.

The two drivers name their options differently, so every remedy is told which names to use.
"""

import ssl

import msgspec

from lykke_cli.application.errors import UsageMistake


class TlsOptions(msgspec.Struct, frozen=True):
    """What a URL's options about certificates are called."""

    authority: str
    """The file with the certificate authorities to trust."""
    certificate: str
    key: str
    plain: str
    """How to connect without TLS."""


REDIS_OPTIONS = TlsOptions("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "redis://")
BRIDGE_OPTIONS = TlsOptions("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "http://")
POSTGRES_OPTIONS = TlsOptions("sslrootcert", "sslcert", "sslkey", "sslmode=disable")

# https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/#error-codes
_NOT_NOW = (9, 10)
_UNKNOWN_AUTHORITY = (18, 19, 20, 21)
_OTHER_HOST = (62, 64)


def tls_reason(error: ssl.SSLError) -> str:
    """What went wrong, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    return (error.reason or "TLS failed").replace("_", " ").lower()


def tls_remedy(error: ssl.SSLError, names: TlsOptions) -> str:
    """What to do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _UNKNOWN_AUTHORITY:
            return (
                f"Name the file of the authority that signed it with {names.authority}=FILE in "
                "the URL."
            )
        if error.verify_code in _OTHER_HOST:
            return "Use the host name that the certificate was made for."
        if error.verify_code in _NOT_NOW:
            return "Renew the server's certificate, and compare the clocks."
        return f"Check the certificate, and {names.authority}=FILE in the URL."
    reason = (error.reason or "").upper()
    if "WRONG_VERSION" in reason or "RECORD_LAYER" in reason or "UNKNOWN_PROTOCOL" in reason:
        return f"Does this port speak TLS at all? Without it the URL has {names.plain}."
    if "ALERT" in reason:
        return (
            f"The server refused this side: give a certificate that it accepts with "
            f"{names.certificate}=FILE and {names.key}=FILE in the URL."
        )
    return "Check the server's TLS settings."


def check_certificates(
    names: TlsOptions,
    *,
    authority: str | None,
    certificate: str | None,
    key: str | None,
    password: str | None,
) -> None:
    """Read the files that a URL names; raises UsageMistake, naming the option at fault.

    A driver would read them while connecting, when a missing file looks like a missing server and
    an encrypted key makes OpenSSL ask for its password on the terminal.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authority:
        try:
            context.load_verify_locations(authority)
        except OSError as error:
            raise _unreadable(names.authority, error) from error
    if certificate:
        for name, path in ((names.certificate, certificate), (names.key, key)):
            try:
                with open(path or certificate, "rb"):
                    pass
            except OSError as error:
                raise _unreadable(name, error) from error
        try:
            context.load_cert_chain(certificate, key, password or "")
        except (OSError, ValueError) as error:
            raise _unreadable(f"{names.certificate} and {names.key}", error) from error


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine; so is a path."""
    import ipaddress

    if host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _unreadable(name: str, error: Exception) -> UsageMistake:
    if isinstance(error, ssl.SSLError) or not isinstance(error, OSError):
        return UsageMistake(
            f"What the URL's option {name} names cannot be used: a certificate in PEM form is "
            "needed, and the key that belongs to it, not encrypted or with its password."
        )
    return UsageMistake(
        f"The file that the URL's option {name} names cannot be read: {error.strerror}."
    )
