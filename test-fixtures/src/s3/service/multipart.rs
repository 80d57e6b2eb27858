//! Uploads in parts: create, put parts, complete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use s3s::dto::{
    ChecksumType, CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, ETag, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3Request, S3Result, s3_error};

use super::Service;
use super::answer::{check_write, checksum_field, checksum_type, set_checksum};
use super::receive::{receive, refuse_unsupported};
use crate::s3::capabilities::{Capabilities, ChecksumSupport};
use crate::s3::checksum::{Algorithm, Checksum, Coverage, md5};
use crate::s3::store::{Content, Object, Part, Upload};

/// Highest part number of S3.
const PART_NUMBER_MAX: i32 = 10_000;

impl Service {
    pub(super) fn create_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<CreateMultipartUploadOutput> {
        let S3Request { input, headers, .. } = req;
        let capabilities = Capabilities {
            requires_content_md5: false,
            ..self.capabilities()
        };
        refuse_unsupported(&headers, capabilities)?;
        let (algorithm, full_object) = announced_checksum(&input, capabilities)?;
        let mut state = self.store.lock();
        state.bucket(&input.bucket)?;
        let id = state.next_upload_id();
        let upload = Upload {
            key: input.key.clone(),
            algorithm,
            full_object,
            content_type: input.content_type,
            metadata: input.metadata,
            initiated: SystemTime::now(),
            parts: BTreeMap::new(),
        };
        state
            .bucket_mut(&input.bucket)?
            .uploads
            .insert(id.clone(), upload);
        let coverage = if full_object {
            Coverage::FullObject
        } else {
            Coverage::Composite(0)
        };
        Ok(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            checksum_algorithm: algorithm.map(|algorithm| algorithm.name().to_owned().into()),
            checksum_type: algorithm.map(|_| checksum_type(coverage)),
            ..Default::default()
        })
    }

    pub(super) async fn put_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<UploadPartOutput> {
        let S3Request {
            input,
            headers,
            trailing_headers,
            ..
        } = req;
        let number = part_number(Some(input.part_number))?;
        // A wrong upload is refused before its bytes are taken in.
        self.store
            .lock()
            .bucket(&input.bucket)?
            .upload(&input.key, &input.upload_id)?;
        let received = receive(
            &headers,
            input.body,
            trailing_headers.as_ref(),
            self.capabilities(),
        )
        .await?;
        let mut state = self.store.lock();
        let upload = state
            .bucket_mut(&input.bucket)?
            .upload_mut(&input.key, &input.upload_id)?;
        let sent = received
            .checksum
            .as_ref()
            .map(|checksum| checksum.algorithm);
        if let Some(expected) = upload.algorithm
            && sent != Some(expected)
            && !(sent.is_none() && upload.full_object)
        {
            let actual = sent.map_or("null", Algorithm::name);
            return Err(s3_error!(
                InvalidRequest,
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {actual}",
                expected.name()
            ));
        }
        let part = Part {
            content: Content::new(vec![received.data]),
            md5: received.md5,
            checksum: received.checksum.clone(),
            modified: SystemTime::now(),
        };
        let mut output = UploadPartOutput {
            e_tag: Some(ETag::Strong(part.etag())),
            ..Default::default()
        };
        set_checksum!(output, received.checksum);
        upload.parts.insert(number, part);
        Ok(output)
    }

    pub(super) fn complete_upload(
        &self,
        input: CompleteMultipartUploadInput,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let capabilities = self.capabilities();
        let mut state = self.store.lock();
        let bucket = state.bucket_mut(&input.bucket)?;
        let upload = bucket.upload(&input.key, &input.upload_id)?;
        let listed = input
            .multipart_upload
            .as_ref()
            .and_then(|list| list.parts.as_deref())
            .unwrap_or_default();
        let parts = chosen_parts(upload, listed, capabilities)?;
        let content = Content::new(
            parts
                .iter()
                .flat_map(|part| part.content.segments().to_vec())
                .collect(),
        );
        if input
            .mpu_object_size
            .is_some_and(|size| u64::try_from(size) != Ok(content.length()))
        {
            return Err(s3_error!(
                InvalidRequest,
                "The provided 'x-amz-mp-object-size' header does not match"
            ));
        }
        let checksum = object_checksum(upload, &parts, &content);
        check_announced(upload, &input, checksum.as_ref())?;
        let existing = bucket.objects.get(&input.key).map(AsRef::as_ref);
        let support = capabilities.complete_if_none_match;
        check_write(
            existing,
            input.if_match.as_ref(),
            input.if_none_match.as_ref(),
            support,
        )?;
        let digests: Vec<Bytes> = parts
            .iter()
            .map(|part| Bytes::copy_from_slice(&part.md5))
            .collect();
        let object = Object {
            etag: format!("{}-{}", hex::encode(md5(&digests)), parts.len()),
            content,
            checksum,
            content_type: upload.content_type.clone(),
            metadata: upload.metadata.clone(),
            modified: SystemTime::now(),
        };
        let mut output = CompleteMultipartUploadOutput {
            e_tag: Some(ETag::Strong(object.etag.clone())),
            checksum_type: object
                .checksum
                .as_ref()
                .map(|checksum| checksum_type(checksum.coverage)),
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key.clone()),
            ..Default::default()
        };
        set_checksum!(output, object.checksum.as_ref());
        bucket.uploads.remove(&input.upload_id);
        bucket.objects.insert(input.key, Arc::new(object));
        Ok(output)
    }
}

/// The algorithm that an upload announces, and whether it is to cover the whole object.
fn announced_checksum(
    input: &CreateMultipartUploadInput,
    capabilities: Capabilities,
) -> S3Result<(Option<Algorithm>, bool)> {
    let Some(name) = &input.checksum_algorithm else {
        if input.checksum_type.is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
            ));
        }
        return Ok((None, false));
    };
    if capabilities.checksums == ChecksumSupport::Ignored {
        return Ok((None, false));
    }
    let algorithm = Algorithm::from_name(name.as_str()).ok_or_else(|| {
        s3_error!(
            InvalidRequest,
            "Checksum algorithm provided is unsupported."
        )
    })?;
    let full_object = match input.checksum_type.as_ref().map(ChecksumType::as_str) {
        None => algorithm == Algorithm::Crc64Nvme,
        Some(ChecksumType::FULL_OBJECT) => true,
        Some(ChecksumType::COMPOSITE) => false,
        Some(_) => {
            return Err(s3_error!(
                InvalidRequest,
                "Value for x-amz-checksum-type header is invalid."
            ));
        }
    };
    if full_object && !capabilities.full_object_checksums {
        return Err(s3_error!(
            NotImplemented,
            "Checksums of the whole object are not implemented"
        ));
    }
    if full_object && !algorithm.allows_full_object()
        || !full_object && algorithm == Algorithm::Crc64Nvme
    {
        return Err(s3_error!(
            InvalidRequest,
            "This checksum type cannot be used with the {} checksum algorithm.",
            algorithm.name()
        ));
    }
    Ok((Some(algorithm), full_object))
}

fn part_number(number: Option<i32>) -> S3Result<u16> {
    let number = number.filter(|number| (1..=PART_NUMBER_MAX).contains(number));
    let number = number.and_then(|number| u16::try_from(number).ok());
    number.ok_or_else(|| {
        s3_error!(
            InvalidArgument,
            "Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive"
        )
    })
}

/// The parts that a Complete lists, each checked against what was received.
fn chosen_parts<'a>(
    upload: &'a Upload,
    listed: &[CompletedPart],
    capabilities: Capabilities,
) -> S3Result<Vec<&'a Part>> {
    if listed.is_empty() || listed.len() > 10_000 {
        return Err(s3_error!(
            MalformedXML,
            "You must specify at least one part"
        ));
    }
    let mut chosen = Vec::with_capacity(listed.len());
    let mut previous = 0;
    for entry in listed {
        let number = part_number(entry.part_number)?;
        if number <= previous {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order."
            ));
        }
        previous = number;
        let part = upload.parts.get(&number);
        let part = part.filter(|part| {
            entry
                .e_tag
                .as_ref()
                .is_some_and(|etag| etag.value() == part.etag())
        });
        let part = part.ok_or_else(|| {
            s3_error!(
                InvalidPart,
                "Part {number} could not be found, or its entity tag did not match."
            )
        })?;
        check_listed_checksum(upload, entry, number, part)?;
        chosen.push(part);
    }
    let small = chosen
        .iter()
        .rev()
        .skip(1)
        .any(|part| part.content.length() < capabilities.min_part_size_bytes);
    if small {
        return Err(s3_error!(
            EntityTooSmall,
            "Your proposed upload is smaller than the minimum allowed size"
        ));
    }
    Ok(chosen)
}

fn check_listed_checksum(
    upload: &Upload,
    entry: &CompletedPart,
    number: u16,
    part: &Part,
) -> S3Result<()> {
    for algorithm in Algorithm::ALL {
        let Some(listed) = checksum_field!(entry, algorithm) else {
            continue;
        };
        let kept = part
            .checksum
            .as_ref()
            .filter(|checksum| checksum.algorithm == algorithm);
        if kept.is_some_and(|checksum| checksum.encoded() == listed) {
            return Ok(());
        }
        // Where the server keeps no checksum of the part, it computes one rather than believe the list.
        if kept.is_none()
            && algorithm.decode(listed) == Some(algorithm.compute(part.content.segments()))
        {
            return Ok(());
        }
        return Err(s3_error!(
            InvalidPart,
            "The checksum of part {number} did not match."
        ));
    }
    match upload.algorithm {
        Some(algorithm) if !upload.full_object => Err(s3_error!(
            InvalidRequest,
            "The upload was created using a {} checksum. The complete request must include the checksum for each part. \
             It was missing for part {number} in the request.",
            algorithm.name().to_lowercase()
        )),
        _ => Ok(()),
    }
}

/// The checksum that the finished object gets.
fn object_checksum(upload: &Upload, parts: &[&Part], content: &Content) -> Option<Checksum> {
    let algorithm = upload.algorithm?;
    if upload.full_object {
        let value = algorithm.compute(content.segments());
        return Some(Checksum {
            algorithm,
            coverage: Coverage::FullObject,
            value,
        });
    }
    let values: Vec<Bytes> = parts
        .iter()
        .filter_map(|part| part.checksum.as_ref())
        .map(|checksum| Bytes::copy_from_slice(&checksum.value))
        .collect();
    let value = algorithm.compute(&values);
    Some(Checksum {
        algorithm,
        coverage: Coverage::Composite(parts.len()),
        value,
    })
}

/// Compares the checksum that Complete announces in its headers with the object's.
fn check_announced(
    upload: &Upload,
    input: &CompleteMultipartUploadInput,
    checksum: Option<&Checksum>,
) -> S3Result<()> {
    if let Some(kind) = &input.checksum_type
        && let Some(checksum) = checksum
        && checksum_type(checksum.coverage).as_str() != kind.as_str()
    {
        return Err(s3_error!(
            InvalidRequest,
            "The checksum type is not the one that the upload was created with."
        ));
    }
    for algorithm in Algorithm::ALL {
        let Some(announced) = checksum_field!(input, algorithm) else {
            continue;
        };
        if upload.algorithm != Some(algorithm) {
            return Err(s3_error!(
                InvalidRequest,
                "The upload was not created with a {} checksum.",
                algorithm.name()
            ));
        }
        let matches = checksum.is_some_and(|checksum| {
            checksum.encoded() == announced
                || algorithm.decode(announced).as_ref() == Some(&checksum.value)
        });
        if !matches {
            let name = algorithm.name();
            return Err(s3_error!(
                BadDigest,
                "The {name} you specified did not match the calculated checksum."
            ));
        }
    }
    Ok(())
}
