//! Little-endian fields, read with bounds and written.

use super::FormatError;

/// Reads fields one after another from bytes that are not trusted.
pub(super) struct Fields<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// `what` names the thing in errors.
    pub(super) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let Some((field, rest)) = self.rest.split_at_checked(length) else {
            return Err(FormatError::malformed(self.what, "it ends too early"));
        };
        self.rest = rest;
        Ok(field)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, FormatError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A text with its length in one byte before it.
    pub(super) fn text(&mut self) -> Result<&'a str, FormatError> {
        let length = usize::from(self.u8()?);
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes)
            .map_err(|_| FormatError::malformed(self.what, "a text is not UTF-8"))
    }

    /// Refuses what is not zero though it is reserved.
    pub(super) fn zeroes(&mut self, length: usize) -> Result<(), FormatError> {
        if self.take(length)?.iter().any(|byte| *byte != 0) {
            return Err(FormatError::malformed(
                self.what,
                "a reserved field is not zero",
            ));
        }
        Ok(())
    }

    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(FormatError::malformed(
            self.what,
            format!("{} bytes too many", self.rest.len()),
        ))
    }
}

/// Appends a text with its length in one byte before it.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).expect("ids are at most 63 bytes long");
    out.push(length);
    out.extend_from_slice(text.as_bytes());
}
