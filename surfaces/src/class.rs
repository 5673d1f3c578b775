//! The classes that the network is trained on, in the order of its outputs, and those that it never sees.

use crate::pattern::Pattern;
use crate::rng::Rng;
use crate::{fluid, metal, organic, printed, stone, tiled, unseen, woven};

/// How a class is drawn.
pub(crate) struct Kind {
    pub label: &'static str,
    /// How many of the pattern's units fit into a picture's short side, at least and at most.
    pub repeats: (f32, f32),
    /// How far a picture is turned at most, in degrees: 180 where no side is up.
    pub turn: f32,
    /// How strongly it may be bent, 1 being a crumpled cloth.
    pub warp: f32,
    pub paint: fn(&mut Rng) -> Pattern,
}

macro_rules! classes {
    (trained { $($class:ident $label:literal $repeats:expr, $turn:literal, $warp:literal, $paint:path;)* }
     unseen { $($other:ident $name:literal $units:expr, $round:literal, $bend:literal, $draw:path;)* }) => {
        /// A kind of surface. The order never changes: a trained class's number is its place among the network's outputs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Class { $(#[doc = $label] $class,)* $(#[doc = $name] $other),* }

        const ALL: &[Class] = &[$(Class::$class),*];
        const UNSEEN: &[Class] = &[$(Class::$other),*];
        static KINDS: &[Kind] = &[
            $(Kind { label: $label, repeats: $repeats, turn: $turn, warp: $warp, paint: $paint },)*
            $(Kind { label: $name, repeats: $units, turn: $round, warp: $bend, paint: $draw }),*
        ];
    };
}

classes! {
    trained {
        Gingham "gingham" (3.5, 8.0), 180.0, 1.0, woven::gingham;
        Houndstooth "houndstooth" (3.0, 6.5), 180.0, 0.8, woven::houndstooth;
        Tartan "tartan" (1.6, 3.2), 180.0, 1.0, woven::tartan;
        Argyle "argyle" (2.2, 4.5), 20.0, 0.7, woven::argyle;
        BasketWeave "basket weave" (4.0, 8.5), 180.0, 0.6, woven::basket_weave;
        Knit "knit" (4.5, 9.0), 30.0, 0.8, woven::knit;
        PolkaDots "polka dots" (3.0, 7.0), 180.0, 0.6, printed::polka_dots;
        Stripes "stripes" (2.6, 5.5), 180.0, 0.3, printed::stripes;
        Chevron "chevron" (2.5, 5.5), 180.0, 0.5, printed::chevron;
        TumblingBlocks "tumbling blocks" (2.5, 6.0), 180.0, 0.5, printed::tumbling_blocks;
        Brick "brick" (5.0, 11.0), 15.0, 0.25, tiled::brick;
        Herringbone "herringbone" (6.0, 11.0), 180.0, 0.25, tiled::herringbone;
        Honeycomb "honeycomb" (3.5, 8.0), 180.0, 0.6, tiled::honeycomb;
        Mosaic "mosaic" (8.0, 14.0), 180.0, 1.0, tiled::mosaic;
        Cobblestone "cobblestone" (4.0, 8.0), 180.0, 0.4, stone::cobblestone;
        Marble "marble" (1.3, 2.6), 180.0, 1.0, stone::marble;
        Terrazzo "terrazzo" (3.0, 6.0), 180.0, 0.3, stone::terrazzo;
        CrackedEarth "cracked earth" (2.5, 5.5), 180.0, 0.8, stone::cracked_earth;
        WoodGrain "wood grain" (2.0, 4.5), 180.0, 0.8, organic::wood_grain;
        Leopard "leopard" (4.0, 8.0), 180.0, 1.0, organic::leopard;
        Zebra "zebra" (5.0, 9.0), 180.0, 1.0, organic::zebra;
        Camouflage "camouflage" (2.4, 5.0), 180.0, 0.5, organic::camouflage;
        FishScales "fish scales" (3.5, 8.0), 180.0, 0.8, organic::fish_scales;
        Bubbles "bubbles" (1.8, 4.0), 20.0, 0.1, fluid::bubbles;
        Clouds "clouds" (1.2, 2.8), 15.0, 0.3, fluid::clouds;
        WaterCaustics "water caustics" (2.2, 5.0), 180.0, 1.0, fluid::water_caustics;
        ChainLink "chain-link fence" (3.0, 6.5), 20.0, 0.4, metal::chain_link;
        DiamondPlate "diamond plate" (3.0, 6.5), 180.0, 0.25, metal::diamond_plate;
    }
    unseen {
        Corduroy "corduroy" (7.0, 14.0), 180.0, 0.8, unseen::corduroy;
        SandRipples "sand ripples" (4.0, 8.0), 180.0, 0.8, unseen::sand_ripples;
        Granite "granite" (9.0, 18.0), 180.0, 0.4, unseen::granite;
        Checkerboard "checkerboard" (3.0, 7.0), 180.0, 0.6, unseen::checkerboard;
        Stars "stars" (3.0, 6.5), 180.0, 0.6, unseen::stars;
        Agate "agate" (1.4, 2.8), 180.0, 0.8, unseen::agate;
        Grass "grass" (3.0, 6.0), 25.0, 0.3, unseen::grass;
        Rust "rust" (2.0, 4.5), 180.0, 0.6, unseen::rust;
        PerforatedMetal "perforated metal" (5.0, 10.0), 180.0, 0.3, unseen::perforated_metal;
        Labyrinth "labyrinth" (5.0, 9.0), 180.0, 0.6, unseen::labyrinth;
    }
}

impl Class {
    /// Every class that the network is trained on, in order.
    #[must_use]
    pub fn all() -> &'static [Self] {
        ALL
    }

    /// Classes that the network is never trained on: to see what its embeddings say of something new.
    #[must_use]
    pub fn unseen() -> &'static [Self] {
        UNSEEN
    }

    /// Its place in [`Class::all`]; of an unseen class a number beyond those.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    #[must_use]
    pub fn label(self) -> &'static str {
        self.kind().label
    }

    /// The class with this label, if there is one.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        ALL.iter().chain(UNSEEN).copied().find(|class| class.label() == label)
    }

    pub(crate) fn kind(self) -> &'static Kind {
        &KINDS[self.index()]
    }
}
