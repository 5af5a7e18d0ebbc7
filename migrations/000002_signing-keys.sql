-- Up Migration

-- Public halves only. A kid is the RFC 7638 thumbprint of its key, so none can be taken twice or for another key.
create table keyfleet.signing_keys (
  kid text primary key,
  instance_id uuid not null references keyfleet.instances,
  alg text not null check (alg in ('EdDSA', 'Ed25519')),
  x text not null check (x ~ '^[A-Za-z0-9_-]{43}$'),
  published_at timestamptz(3) not null,
  activates_at timestamptz(3) not null,
  retires_at timestamptz(3) not null,
  expires_at timestamptz(3) not null,
  retired_early_at timestamptz(3),
  revoked_at timestamptz(3),
  secret_id text not null,
  seal bytea not null,
  check (published_at <= activates_at and activates_at < retires_at and retires_at < expires_at),
  check (kid = translate(rtrim(encode(sha256(convert_to(
    '{"crv":"Ed25519","kty":"OKP","x":"' || x || '"}', 'UTF8')), 'base64'), '='), '+/', '-_'))
);
create index signing_keys_by_instance on keyfleet.signing_keys (instance_id);

-- When a key stops signing, and when it leaves the JWKS: as published, or by its earlier end.
create function keyfleet.key_retirement(k keyfleet.signing_keys) returns timestamptz
language sql immutable as $$ select least(k.retires_at, k.retired_early_at) $$;

create function keyfleet.key_expiry(k keyfleet.signing_keys) returns timestamptz
language sql immutable as $$
  select case when keyfleet.key_retirement(k) < k.activates_at then keyfleet.key_retirement(k)
              else keyfleet.key_retirement(k) + (k.expires_at - k.retires_at) end
$$;

-- A published key is a fact: its end may only move earlier, it may be revoked once, and re-sealing is no change.
create function keyfleet.signing_keys_are_facts() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    if keyfleet.key_expiry(old) > pg_catalog.clock_timestamp() then
      raise exception 'an unexpired signing key cannot be deleted';
    end if;
    return old;
  end if;
  if (new.kid, new.instance_id, new.alg, new.x, new.published_at, new.activates_at, new.retires_at, new.expires_at)
     is distinct from
     (old.kid, old.instance_id, old.alg, old.x, old.published_at, old.activates_at, old.retires_at, old.expires_at)
  then
    raise exception 'a published signing key cannot be changed';
  end if;
  if old.retired_early_at is not null
     and (new.retired_early_at is null or new.retired_early_at > old.retired_early_at) then
    raise exception 'the end of a signing key can only move earlier';
  end if;
  if old.revoked_at is not null and new.revoked_at is distinct from old.revoked_at then
    raise exception 'a revoked signing key stays revoked';
  end if;
  return new;
end $$;
create trigger signing_keys_are_facts before update or delete on keyfleet.signing_keys
  for each row execute function keyfleet.signing_keys_are_facts();

-- Whatever changes the keys raises the version as its last act: who has read a version has read all before it.
create function keyfleet.directory_changed() returns trigger language plpgsql as $$
begin
  update keyfleet.fleet_state set directory_version = directory_version + 1;
  perform pg_catalog.pg_notify('keyfleet_directory', '');
  return null;
end $$;
create trigger directory_changed after insert or update or delete on keyfleet.signing_keys
  for each statement execute function keyfleet.directory_changed();

-- Publishes a key, or finds that it is published already (the answer to a first try may have been lost).
-- Outcomes: published, clock_differs, instance_ended.
create function keyfleet.publish_signing_key(
  p_kid text, p_instance_id uuid, p_alg text, p_x text,
  p_published_at timestamptz, p_activates_at timestamptz, p_retires_at timestamptz, p_expires_at timestamptz,
  p_secret_id text, p_seal bytea
) returns text language plpgsql as $$
begin
  perform from keyfleet.instances i
    where i.id = p_instance_id and i.stopped_at is null and i.revoked_at is null for share;
  if not found then return 'instance_ended'; end if;
  perform from keyfleet.signing_keys k where k.kid = p_kid and k.instance_id = p_instance_id;
  if found then return 'published'; end if;
  if abs(extract(epoch from pg_catalog.clock_timestamp() - p_published_at)) > 0.5 then
    return 'clock_differs';
  end if;
  insert into keyfleet.signing_keys
    (kid, instance_id, alg, x, published_at, activates_at, retires_at, expires_at, secret_id, seal)
  values
    (p_kid, p_instance_id, p_alg, p_x, p_published_at, p_activates_at, p_retires_at, p_expires_at, p_secret_id, p_seal);
  perform keyfleet.audit(('instance:' || p_instance_id, p_instance_id, null), 'key_published', null, null, null, p_kid, null);
  return 'published';
end $$;

-- Ends an instance: first its row, so that it publishes no more, then its keys. The keys are locked before the
-- clock is read: a statement that issues under one of them, and holds it FOR SHARE, is waited for.
create function keyfleet.stop_instance(p_instance_id uuid) returns void language plpgsql as $$
declare
  ended_at timestamptz;
  ended record;
begin
  update keyfleet.instances i set stopped_at = coalesce(i.stopped_at, pg_catalog.clock_timestamp())
    where i.id = p_instance_id;
  perform from keyfleet.signing_keys k where k.instance_id = p_instance_id for update;
  ended_at := pg_catalog.clock_timestamp();
  for ended in
    update keyfleet.signing_keys k set retired_early_at = ended_at
      where k.instance_id = p_instance_id and keyfleet.key_retirement(k) > ended_at
      returning k.kid, case when keyfleet.key_retirement(k) < k.activates_at then 'key_withdrawn' else 'key_retired' end
        as event
  loop
    perform keyfleet.audit(
      ('instance:' || p_instance_id, p_instance_id, null), ended.event, null, null, null, ended.kid, null);
  end loop;
end $$;

-- Revokes all unexpired keys of an instance, whose memory is suspect: they leave the JWKS, go onto the log, and the
-- issuing statement refuses them from the commit on. With p_bar the instance publishes no others. Returns the kids.
create function keyfleet.revoke_instance_keys(
  p_instance_id uuid, p_bar boolean, p_reason text, p_who keyfleet.acting
) returns text[] language plpgsql as $$
declare
  now_at timestamptz;
  forget_at timestamptz;
  kids text[];
begin
  update keyfleet.instances i
    set revoked_at = case when p_bar then coalesce(i.revoked_at, pg_catalog.clock_timestamp()) else i.revoked_at end
    where i.id = p_instance_id;
  perform from keyfleet.signing_keys k where k.instance_id = p_instance_id for update;
  now_at := pg_catalog.clock_timestamp();
  with revoked as (
    update keyfleet.signing_keys k set revoked_at = now_at
      where k.instance_id = p_instance_id and k.revoked_at is null and keyfleet.key_expiry(k) > pg_catalog.clock_timestamp()
      returning k.kid, keyfleet.key_expiry(k) as expires_at
  )
  select coalesce(array_agg(r.kid), '{}'), max(r.expires_at) into kids, forget_at from revoked r;
  perform keyfleet.audit(p_who, 'key_revoked', null, null, null, kid, p_reason) from unnest(kids) as kid;
  if p_bar then
    perform keyfleet.audit(p_who, 'instance_revoked', null, null, null, null, p_instance_id::text);
  end if;
  perform keyfleet.revoke('key', kids, now_at, greatest(forget_at, keyfleet.forget_after(now_at)));
  return kids;
end $$;
