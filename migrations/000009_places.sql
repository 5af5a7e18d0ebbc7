-- Up Migration

-- Signers other than this instance that stay, as far as it can tell.
create function keyfleet.other_signers(p_instance_id uuid, p_now timestamptz) returns setof uuid
language sql stable as $$
  select distinct k.instance_id
    from keyfleet.signing_keys k join keyfleet.instances i on i.id = k.instance_id
    where k.instance_id <> p_instance_id and k.revoked_at is null and keyfleet.key_retirement(k) > p_now
      and i.leaving_at is null
      and keyfleet.lives(i, keyfleet.is_connected_for(p_instance_id, interval '15 seconds', p_now), p_now)
$$;

-- Whether one more instance may publish a ring: a place is free among the signers, and beside its two keys there is
-- room for every signer's next, for at most 90 keys are unexpired (consumers' limits begin at 100 keys, and at 16 KB).
create or replace function keyfleet.has_place(p_instance_id uuid, p_max_signers integer) returns boolean
language plpgsql as $$
declare
  now_at timestamptz := pg_catalog.clock_timestamp();
  signers integer;
  unexpired integer;
begin
  select count(*) into signers from keyfleet.other_signers(p_instance_id, now_at);
  select count(*) into unexpired from keyfleet.signing_keys k
    where k.revoked_at is null and keyfleet.key_expiry(k) > now_at;
  return signers < p_max_signers and unexpired + 2 + signers <= 90;
end $$;

-- Whether a signer may publish its next key. One that was silent for a while may find its place taken: where there are
-- more signers than places, those with the lowest ids go on, and the others borrow when their keys have ended.
create function keyfleet.keeps_place(p_instance_id uuid, p_max_signers integer) returns boolean
language plpgsql as $$
declare
  now_at timestamptz := pg_catalog.clock_timestamp();
begin
  return (select count(*) from keyfleet.other_signers(p_instance_id, now_at) other where other < p_instance_id)
      < p_max_signers
    and (select count(*) from keyfleet.signing_keys k
      where k.revoked_at is null and keyfleet.key_expiry(k) > now_at) < 90;
end $$;

create or replace function keyfleet.publish_key(
  p_key keyfleet.signing_keys, p_made_at timestamptz, p_max_signers integer
) returns text language plpgsql as $$
declare
  now_at timestamptz;
begin
  perform from keyfleet.instances i
    where i.id = p_key.instance_id and i.stopped_at is null and i.revoked_at is null and i.leaving_at is null for share;
  if not found then return 'instance_ended'; end if;
  perform from keyfleet.signing_keys k where k.kid = p_key.kid and k.instance_id = p_key.instance_id;
  if found then return 'published'; end if;
  now_at := pg_catalog.clock_timestamp();
  if abs(extract(epoch from now_at - p_key.published_at)) > 0.5 then return 'clock_differs'; end if;
  perform from keyfleet.signing_keys k
    where k.instance_id = p_key.instance_id and k.revoked_at >= p_made_at;
  if found then return 'ring_revoked'; end if;
  if exists (select from keyfleet.signing_keys k
    where k.instance_id = p_key.instance_id and k.revoked_at is null and keyfleet.key_retirement(k) > now_at)
  then
    perform pg_catalog.pg_advisory_xact_lock(hashtextextended('keyfleet signers', 0));
    if not keyfleet.keeps_place(p_key.instance_id, p_max_signers) then return 'no_place'; end if;
  else
    -- Most who ask find no place: they need not wait for each other.
    if not keyfleet.has_place(p_key.instance_id, p_max_signers) then return 'no_place'; end if;
    perform pg_catalog.pg_advisory_xact_lock(hashtextextended('keyfleet signers', 0));
    if not keyfleet.has_place(p_key.instance_id, p_max_signers) then return 'no_place'; end if;
  end if;
  insert into keyfleet.signing_keys
    (kid, instance_id, alg, x, published_at, activates_at, retires_at, expires_at, secret_id, seal)
  values
    (p_key.kid, p_key.instance_id, p_key.alg, p_key.x, p_key.published_at, p_key.activates_at, p_key.retires_at,
     p_key.expires_at, p_key.secret_id, p_key.seal);
  perform keyfleet.audit(('instance:' || p_key.instance_id, p_key.instance_id, null),
    'key_published', null, null, null, p_key.kid, null);
  return 'published';
end $$;

-- In how long an instance that leaves is needed no more: at once where it has nothing to lend, where another that stays
-- has a mature key, or where nobody else is there; when the first key of another that stays has matured; null where
-- nobody has published one. Instances of the release before ask may_leave.
create function keyfleet.replaced_in(p_instance_id uuid, p_propagation_delay interval) returns interval
language plpgsql as $$
declare
  now_at timestamptz := pg_catalog.clock_timestamp();
  matures_at timestamptz;
begin
  perform from keyfleet.signing_keys k
    where k.instance_id = p_instance_id and k.revoked_at is null and keyfleet.key_retirement(k) > now_at;
  if not found then return interval '0'; end if;
  perform from keyfleet.instances i
    where i.id <> p_instance_id and i.leaving_at is null and keyfleet.lives(i, false, now_at);
  if not found then return interval '0'; end if;
  select min(greatest(k.published_at + p_propagation_delay, k.activates_at)) into matures_at
    from keyfleet.signing_keys k join keyfleet.instances i on i.id = k.instance_id
    where i.id <> p_instance_id and i.leaving_at is null and i.listening and keyfleet.lives(i, true, now_at)
      and k.revoked_at is null
      and keyfleet.key_retirement(k) > greatest(now_at, k.published_at + p_propagation_delay);
  return case when matures_at <= now_at then interval '0' else matures_at - now_at end;
end $$;
