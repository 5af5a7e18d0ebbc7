-- Up Migration

-- A statement that touches no key changes nothing: every instance prunes every few minutes, and a thousand of them would
-- have each other read all keys, and ask for a place, several times a second.
create or replace function keyfleet.directory_changed() returns trigger language plpgsql as $$
begin
  if not exists (select from changed) then return null; end if;
  update keyfleet.fleet_state set directory_version = directory_version + 1;
  perform pg_catalog.pg_notify('keyfleet_directory', '');
  return null;
end $$;

drop trigger directory_changed on keyfleet.signing_keys;
create trigger directory_grew after insert on keyfleet.signing_keys
  referencing new table as changed for each statement execute function keyfleet.directory_changed();
create trigger directory_changed after update on keyfleet.signing_keys
  referencing new table as changed for each statement execute function keyfleet.directory_changed();
create trigger directory_shrank after delete on keyfleet.signing_keys
  referencing old table as changed for each statement execute function keyfleet.directory_changed();
