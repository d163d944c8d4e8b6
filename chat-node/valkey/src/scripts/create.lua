-- Makes a shard unless it is there, and says how it is.
-- KEYS: head.  ARGV: format, shards, this process (run id).
-- Gives: format, shards, lineage, last, snapshot, key of the snapshot.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'format', ARGV[1], 'shards', ARGV[2], 'run', ARGV[3], 'lineage', 0, 'last', 0, 'snapshot', 0, 'snapshotKey', '')
end
return redis.call('HMGET', KEYS[1], 'format', 'shards', 'lineage', 'last', 'snapshot', 'snapshotKey')
