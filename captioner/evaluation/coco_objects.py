"""Words that mention the 80 object categories of COCO.

The list is this project's own. It favours precision: words that usually mean something else are
excluded (a "glass" may not be a wine glass, "orange" is mostly a colour, "ski" and "baseball" are
mostly the sport). Plurals are formed by rule from the last word of a phrase, except for the
irregular ones below. Longer phrases match first: a "hot dog" is not a dog, a "baby elephant" not a
baby and a "train station" not a train.
"""

PERSON = """person, people, human, individual, someone, somebody, man, woman, boy, girl, child, kid,
baby, infant, toddler, adult, teenager, teen, youth, lady, guy, gentleman, fellow, male, female,
crowd, audience, spectator, pedestrian, passenger, tourist, family, father, mother, dad, mom, son,
daughter, brother, sister, friend, player, batter, catcher, umpire, referee, goalie, coach, athlete,
skier, snowboarder, surfer, skateboarder, skater, swimmer, runner, jogger, hiker, climber, rider,
cyclist, bicyclist, biker, motorcyclist, bicycler, driver, jockey, cowboy, officer, policeman, cop,
soldier, guard, fireman, firefighter, worker, chef, cook, waiter, waitress, vendor, farmer,
fisherman, businessman, businesswoman, bride, groom, student, teacher, doctor, nurse, dancer,
musician, singer"""

BIRD = """bird, pigeon, dove, seagull, gull, duck, duckling, goose, gosling, swan, parrot, parakeet,
owl, eagle, hawk, crow, sparrow, peacock, pelican, flamingo, penguin, ostrich, rooster, hen, heron,
robin"""

# Names of animals. Words such as "mother" or "baby" before one of them do not mention a person.
ANIMALS = {
    "bird": BIRD,
    "cat": "cat, kitten, kitty",
    "dog": "dog, puppy, pup, poodle, bulldog, labrador, retriever, terrier, dachshund, beagle",
    "horse": "horse, pony, foal, colt, mare, stallion",
    "sheep": "sheep, lamb, ram, ewe",
    "cow": "cow, cattle, bull, calf, ox, oxen",
    "elephant": "elephant",
    "bear": "bear, polar bear, grizzly",
    "zebra": "zebra",
    "giraffe": "giraffe",
}

OBJECTS = {
    "person": PERSON,
    "bicycle": "bicycle, bike",
    "car": "car, automobile, taxi, taxi cab, cab, van, minivan, suv, sedan, jeep, hatchback",
    "motorcycle": "motorcycle, motorbike, motor bike, dirt bike, moped, motor scooter, vespa",
    "airplane": "airplane, aeroplane, air plane, plane, jet, airliner, jetliner, aircraft, biplane",
    "bus": "bus, minibus, double decker",
    "train": "train, locomotive, tram, trolley car",
    "truck": "truck, pickup, pick up truck, lorry, fire engine, tractor trailer",
    "boat": """boat, sailboat, sail boat, motorboat, speedboat, rowboat, row boat, ship, ferry,
        yacht, canoe, kayak, gondola, barge, dinghy""",
    "traffic light": "traffic light, traffic signal, stop light, stoplight",
    "fire hydrant": "fire hydrant, hydrant",
    "stop sign": "stop sign",
    "parking meter": "parking meter",
    "bench": "bench",
    **ANIMALS,
    "backpack": "backpack, back pack, knapsack, rucksack",
    "umbrella": "umbrella, parasol",
    "handbag": "handbag, hand bag, purse",
    "tie": "tie, necktie, neck tie, bow tie, bowtie",
    "suitcase": "suitcase, suit case, luggage",
    "frisbee": "frisbee, flying disc",
    "skis": "skis",
    "snowboard": "snowboard, snow board",
    "sports ball": "ball, soccerball",
    "kite": "kite",
    "baseball bat": "bat, baseball bat",
    "baseball glove": "baseball glove, mitt, baseball mitt, catcher's mitt",
    "skateboard": "skateboard, skate board",
    "surfboard": "surfboard, surf board",
    "tennis racket": "racket, racquet, tennis racket, tennis racquet",
    "bottle": "bottle",
    "wine glass": "wine glass, wineglass, glass of wine, glasses of wine",
    "cup": "cup, mug, teacup",
    "fork": "fork",
    "knife": "knife",
    "spoon": "spoon",
    "bowl": "bowl",
    "banana": "banana",
    "apple": "apple",
    "sandwich": "sandwich, burger, hamburger, cheeseburger",
    "orange": "oranges, orange slice, sliced orange, mandarin, tangerine",
    "broccoli": "broccoli",
    "carrot": "carrot",
    "hot dog": "hot dog, hotdog, chili dog",
    "pizza": "pizza",
    "donut": "donut, doughnut",
    "cake": "cake, cupcake, cheesecake",
    "chair": "chair, armchair, arm chair",
    "couch": "couch, sofa, loveseat, love seat",
    "potted plant": "potted plant, plant, houseplant",
    "bed": "bed",
    "dining table": "table, desk",
    "toilet": "toilet",
    "tv": "tv, television, computer monitor, computer screen, flat screen",
    "laptop": "laptop, notebook computer",
    "mouse": "mouse, computer mouse",
    "remote": "remote, remote control, wii controller, game controller",
    "keyboard": "keyboard",
    "cell phone": "cell phone, cellphone, mobile phone, phone, smartphone, smart phone, iphone",
    "microwave": "microwave, microwave oven",
    "oven": "oven, stove",
    "toaster": "toaster",
    "sink": "sink",
    "refrigerator": "refrigerator, fridge",
    "book": "book",
    "clock": "clock",
    "vase": "vase",
    "scissors": "scissors, scissor",
    "teddy bear": "teddy bear, teddy, stuffed bear, toy bear",
    "hair drier": "hair drier, hair dryer, hairdryer, blow dryer",
    "toothbrush": "toothbrush, tooth brush",
}
"""Words and phrases that mention each category, in the singular."""

NOT_OBJECTS = """train station, train track, train platform, train car, bus stop, bus station,
car park, car seat, boat dock, boat house, bear rug, dog house, dog food, dog park, cat food,
bird house, bird cage, bird feeder, bird bath, horse shoe, book shelf, book case, book store,
phone booth, mouse pad, toilet paper, table cloth, table top, table tennis, bed room, bed spread,
apple computer, apple laptop, chair lift, power plant, ball park, ball game, ball room, cow boy"""
"""Phrases whose words do not mention an object."""

OF_ANIMALS = "baby, mother, father, adult, male, female, family of, mom"
"""Words that do not mention a person before the name of an animal."""

IRREGULAR = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "persons",
    "gentleman": "gentlemen",
    "policeman": "policemen",
    "fireman": "firemen",
    "fisherman": "fishermen",
    "businessman": "businessmen",
    "businesswoman": "businesswomen",
    "goose": "geese",
    "calf": "calves",
    "knife": "knives",
    "mouse": "mice",
    "sheep": "sheep",
    "cattle": "cattle",
    "aircraft": "aircraft",
    "people": "people",
    "luggage": "luggage",
}
"""Plurals that do not follow a rule."""
