-- Gives a gate up, if it is ours. KEYS[1] the gate; ARGV[1] who.
if redis.call('MGET', KEYS[1])[1] == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
