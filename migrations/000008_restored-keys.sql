-- Up Migration

-- Ends those keys of an instance that sign now, and those that would from p_spared_until on. Its row is held locked by
-- whoever calls. The keys are locked before the clock is read: a statement that issues under one of them, and holds it
-- FOR SHARE, is waited for. A key that signed nothing that is still valid leaves the JWKS at once; but what it signed
-- before this epoch may be lost with a restored backup.
create or replace function keyfleet.end_keys(
  p_instance_id uuid, p_spared_until interval, p_detail text, p_who keyfleet.acting
) returns void language plpgsql as $$
declare
  now_at timestamptz;
  ended record;
begin
  perform from keyfleet.signing_keys k where k.instance_id = p_instance_id for update;
  now_at := pg_catalog.clock_timestamp();
  for ended in
    update keyfleet.signing_keys k set retired_early_at = case
        when k.activates_at > now_at
          or k.activates_at <= (select s.complete_since from keyfleet.fleet_state s)
          or exists (select from keyfleet.issued_tokens t where t.kid = k.kid) then now_at
        else k.activates_at - interval '1 millisecond' end
      where k.instance_id = p_instance_id and k.revoked_at is null and keyfleet.key_retirement(k) > now_at
        and (k.activates_at <= now_at or k.activates_at >= now_at + p_spared_until)
      returning k.kid, case when keyfleet.key_retirement(k) < k.activates_at then 'key_withdrawn' else 'key_retired' end
        as event
  loop
    perform keyfleet.audit(p_who, ended.event, null, null, null, ended.kid, p_detail);
  end loop;
end $$;
