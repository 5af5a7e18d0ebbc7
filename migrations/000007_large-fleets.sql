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

-- Whether an instance that leaves is needed no more: it has nothing to lend, or another that stays has a mature key, or
-- nobody else is there.
create or replace function keyfleet.may_leave(p_instance_id uuid, p_propagation_delay interval) returns boolean
language plpgsql as $$
declare
  now_at timestamptz := pg_catalog.clock_timestamp();
begin
  perform from keyfleet.signing_keys k
    where k.instance_id = p_instance_id and k.revoked_at is null and keyfleet.key_retirement(k) > now_at;
  if not found then return true; end if;
  perform from keyfleet.instances i
    where i.id <> p_instance_id and i.leaving_at is null and keyfleet.lives(i, false, now_at);
  if not found then return true; end if;
  perform from keyfleet.signing_keys k join keyfleet.instances i on i.id = k.instance_id
    where i.id <> p_instance_id and i.leaving_at is null and i.listening and keyfleet.lives(i, true, now_at)
      and k.revoked_at is null and k.published_at <= now_at - p_propagation_delay
      and k.activates_at <= now_at and keyfleet.key_retirement(k) > now_at;
  return found;
end $$;
