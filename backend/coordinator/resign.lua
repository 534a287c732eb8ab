-- Gives up the lead, if it is mine.   KEYS  1 who leads   ARGV  1 me
if redis.call('HGET', KEYS[1], 'name') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
