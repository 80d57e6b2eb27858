//! What an endpoint can and cannot do: switches that make the server in the process behave like lesser ones.

/// How a conditional header (`If-None-Match: *`) is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conditional {
    /// Checked in one step with the write; 412 `PreconditionFailed` if the key exists.
    Enforced,
    /// Accepted and not looked at: the dangerous kind of endpoint.
    Ignored,
    /// Refused with 501 `NotImplemented`.
    Rejected,
}

/// How `x-amz-checksum-*` headers are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumSupport {
    /// Verified on arrival, kept, and returned where asked for.
    Verified,
    /// Accepted, not verified, not kept.
    Ignored,
    /// Refused with 501 `NotImplemented`.
    Rejected,
}

/// What the server in the process can do. The default is everything, as on Amazon S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// `If-None-Match: *` on `PutObject`.
    pub put_if_none_match: Conditional,
    /// `If-None-Match: *` on `CompleteMultipartUpload`.
    pub complete_if_none_match: Conditional,
    /// `x-amz-checksum-*` headers.
    pub checksums: ChecksumSupport,
    /// Whether a body may be sent in signed chunks or with a trailing checksum (`STREAMING-…` payloads).
    pub streaming_payloads: bool,
    /// Whether an upload in parts may ask for a checksum over the whole object.
    pub full_object_checksums: bool,
    /// Whether `PutObject`, `UploadPart` and `DeleteObjects` must carry `Content-MD5`.
    pub requires_content_md5: bool,
    /// Smallest size of a part that is not the last one, in bytes.
    pub min_part_size_bytes: u64,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            put_if_none_match: Conditional::Enforced,
            complete_if_none_match: Conditional::Enforced,
            checksums: ChecksumSupport::Verified,
            streaming_payloads: true,
            full_object_checksums: true,
            requires_content_md5: false,
            min_part_size_bytes: 5 * 1024 * 1024,
        }
    }
}

impl Capabilities {
    /// An endpoint that takes `If-None-Match` on `PutObject` and does not look at it.
    #[must_use]
    pub fn no_if_none_match(mut self) -> Self {
        self.put_if_none_match = Conditional::Ignored;
        self
    }

    /// An endpoint that takes `If-None-Match` on `CompleteMultipartUpload` and does not look at it.
    #[must_use]
    pub fn no_conditional_complete(mut self) -> Self {
        self.complete_if_none_match = Conditional::Ignored;
        self
    }

    /// An endpoint that refuses every `x-amz-checksum-*` header and every trailing checksum.
    #[must_use]
    pub fn no_checksums(mut self) -> Self {
        self.checksums = ChecksumSupport::Rejected;
        self.streaming_payloads = false;
        self
    }

    /// An endpoint that insists on `Content-MD5`.
    #[must_use]
    pub fn requires_content_md5(mut self) -> Self {
        self.requires_content_md5 = true;
        self
    }

    /// An endpoint with another smallest part size; tests set it to 1 to make many small parts.
    #[must_use]
    pub fn min_part_size_bytes(mut self, bytes: u64) -> Self {
        self.min_part_size_bytes = bytes;
        self
    }
}
