-- Keeps what the leader decided, and tells it. Only the newest leader's word is taken, and only in the life of the store in which it began.
-- KEYS  1 lineage   2 standings   3 the last fencing token
-- ARGV  1 lineage   2 token   3 channel   4 message, or ''   then circuit, standing, ...
-- Returns 1, or 0 if it was refused.
if redis.call('GET', KEYS[1]) ~= ARGV[1] or redis.call('GET', KEYS[3]) ~= ARGV[2] then return 0 end
for at = 5, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[at], ARGV[at + 1]) end
if ARGV[4] ~= '' then redis.call('PUBLISH', ARGV[3], ARGV[4]) end
return 1
