use super::*;

#[test]
fn the_own_program_is_mapped_from_its_file() {
    let mut modules = Modules::default();
    let image = Image::read(std::process::id(), None, &mut modules).unwrap();
    let here = the_own_program_is_mapped_from_its_file as fn() as usize as u64;
    let mapping = image.mapping(here).unwrap();
    let module = mapping.module.as_ref().unwrap();
    let own = std::env::current_exe().unwrap();
    assert_eq!(*module.path, *own.to_str().unwrap());
    assert!(module.eh_frame.is_some() && module.eh_frame_hdr.is_some());
    // Another program of the same process would have another number.
    assert!(Image::read(std::process::id(), Some(image.id), &mut modules).is_some());
    assert!(Image::read(std::process::id(), Some(image.id + 16), &mut modules).is_none());
}
