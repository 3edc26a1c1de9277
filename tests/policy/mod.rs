//! The policies that are tables, against the tables of the contract.

mod tables;
