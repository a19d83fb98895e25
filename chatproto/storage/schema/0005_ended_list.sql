-- oldest code: 0.1.0
-- The ended conversations of an admin, the latest first, are read in the order of the index: an admin's list costs the
-- same after years. Without the group in it, all that the admin ever served were sorted.
CREATE INDEX conversation_ended_in_group ON conversation (last_served_by, group_id, ended_at, id) WHERE state = 'ended';
DROP INDEX conversation_ended;
