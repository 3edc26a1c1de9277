//! Overwrites what SQLite left lying: between the cells of a page, bytes of rows that were there once.
//!
//! `secure_delete` overwrites what is freed, but not what a page that was rebuilt holds twice, nor what was freed before it was
//! on. So each page of a tree is read, and its unused bytes are set to nought, by SQLite's own pager, in its transaction.

use rusqlite::{Connection, params};

use super::schema::PAGE;
use super::trouble::Trouble;

/// Works through pages from `from` on; where the next turn begins, or `None` at the end.
pub(super) fn gaps(conn: &Connection, from: u64) -> Result<Option<u64>, Trouble> {
    let last = conn.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))?.cast_unsigned();
    let mut read = conn.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
    let mut write = conn.prepare_cached("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1")?;
    let mut page = |number: u64| -> Result<Vec<u8>, Trouble> {
        Ok(read.query_row([number.cast_signed()], |row| row.get(0))?)
    };
    let (mut map, mut map_number) = (Vec::new(), 0);
    let until = from.max(1) + PAGES;
    for number in from.max(1)..until.min(last + 1) {
        let mut start = 0;
        if number == 1 {
            start = HEADER; // The database's own header stands before it.
        } else {
            let of = map_of(number);
            if of == number || number == LOCKED {
                continue;
            }
            if of != map_number {
                (map, map_number) = (page(of)?, of);
            }
            // Of free pages and of those that hold the rest of a large row nothing is left to overwrite.
            let at = usize::try_from(ENTRY * (number - of - 1)).unwrap_or(usize::MAX);
            if !map.get(at).is_some_and(|kind| [ROOT, TREE].contains(kind)) {
                continue;
            }
        }
        let mut bytes = page(number)?;
        if clean(&mut bytes, start) == Some(true) {
            write.execute(params![number.cast_signed(), bytes])?;
        }
    }
    Ok((until <= last).then_some(until))
}

/// So many pages in one turn.
const PAGES: u64 = 32;

const HEADER: usize = 100;

/// A map of pages says of each that follows it what it is, in five bytes; the first of them is page 2.
const ENTRY: u64 = 5;
const ROOT: u8 = 1;
const TREE: u8 = 5;

/// The page in which SQLite's locks lie holds nothing.
const LOCKED: u64 = (1 << 30) / PAGE + 1;

fn map_of(number: u64) -> u64 {
    let step = PAGE / ENTRY + 1;
    let map = (number - 2) / step * step + 2;
    if map == LOCKED { map + 1 } else { map }
}

/// Sets the unused bytes of a tree's page to nought, from its header at `start` on; whether there were others, or `None` if it
/// is no such page.
fn clean(page: &mut [u8], start: usize) -> Option<bool> {
    let number = |page: &[u8], at: usize| -> Option<usize> {
        let bytes = page.get(at..at + 2)?.try_into().ok()?;
        Some(usize::from(u16::from_be_bytes(bytes)))
    };
    let header = match page.get(start)? {
        0x02 | 0x05 => 12,
        0x0a | 0x0d => 8,
        _ => return None,
    };
    let pointers = start + header + 2 * number(page, start + 3)?;
    let cells = match number(page, start + 5)? {
        0 => page.len(),
        at => at,
    };
    let mut unused = Vec::from([(pointers, cells)]);
    let mut block = number(page, start + 1)?;
    let mut before = 0;
    while block != 0 {
        let size = number(page, block + 2)?;
        // They stand in order: a chain that runs back is none.
        if block < before.max(cells) || size < 4 {
            return None;
        }
        unused.push((block + 4, block + size));
        (before, block) = (block + size, number(page, block)?);
    }
    let mut changed = false;
    for (from, to) in unused {
        // What makes no sense is not touched: `verify` tells of it.
        for byte in page.get_mut(from..to)? {
            changed |= *byte != 0;
            *byte = 0;
        }
    }
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cells_do_not_use_is_overwritten_and_nothing_else() {
        let mut page = vec![0xaa_u8; 4096];
        // A leaf of one cell of 16 bytes at the end, and a free block of 20 before it.
        page[..8].copy_from_slice(&[0x0d, 0x0f, 0xdc, 0, 1, 0x0f, 0xdc, 0]);
        page[8..10].copy_from_slice(&4080_u16.to_be_bytes());
        page[4060..4064].copy_from_slice(&[0, 0, 0, 20]);
        let was = page.clone();
        assert_eq!(clean(&mut page, 0), Some(true));
        assert_eq!(page[..10], was[..10]);
        assert!(page[10..4060].iter().all(|byte| *byte == 0));
        assert_eq!(page[4060..4064], was[4060..4064]);
        assert!(page[4064..4080].iter().all(|byte| *byte == 0));
        assert_eq!(page[4080..], was[4080..]);
        assert_eq!(clean(&mut page, 0), Some(false));
    }

    #[test]
    fn what_is_no_page_of_a_tree_is_left_alone() {
        for head in [
            [0x00, 0, 0, 0, 0, 0, 0, 0],
            [0x0d, 0, 5, 0, 1, 0x0f, 0xf0, 0],
            [0x0d, 0, 0, 0xff, 0xff, 0, 9, 0],
        ] {
            let mut page = vec![0xaa_u8; 4096];
            page[..8].copy_from_slice(&head);
            let was = page.clone();
            assert_eq!(clean(&mut page, 0), None, "{head:?}");
            assert_eq!(page, was);
        }
    }

    #[test]
    fn maps_stand_where_sqlite_puts_them() {
        assert_eq!([3, 821, 822, 823, 1642].map(map_of), [2, 2, 822, 822, 1642]);
    }
}
