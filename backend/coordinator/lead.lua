-- Takes or keeps the lead. Each new reign gets the next fencing token, so that an old leader's late word can be told from a new one's.
-- KEYS  1 who leads   2 the last fencing token      ARGV  1 me   2 lease in ms
-- Returns my fencing token, or 0 while somebody else leads.
local leader = redis.call('HGET', KEYS[1], 'name')
if not leader then
  local token = redis.call('INCR', KEYS[2])
  redis.call('HSET', KEYS[1], 'name', ARGV[1], 'token', token)
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return token
end
if leader ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return tonumber(redis.call('HGET', KEYS[1], 'token'))
