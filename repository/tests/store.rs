//! Every store against one contract, and the S3 store against everything that goes wrong on the way to a bucket.

mod store_contract;
